-- Claims what has been pending for too long. Ids whose entries the cap has trimmed meanwhile leave the pending list with
-- that; they are counted in the same step, so that the count survives whoever claims. An event that was delivered as often
-- as it may be goes to the dead letters instead. After the last page, consumers that have nothing pending and have not
-- been seen for ten times as long are removed.
-- How long is judged by this server's time of day. Where that went back, nothing would be old enough until it has caught
-- up: so it is noted now and then, and once it is behind its note everything pending counts from now on. A step of less than
-- twice idle_ms may go unseen: it holds a claim up by no more than that.
-- KEYS: stream, hash of counts, dead letters
-- ARGV: group, consumer, idle_ms, cursor, count, tries_max, dead_cap, now_ms
-- Gives the next cursor, the entries, the deliveries of each, how many were trimmed, how many are dead.
local stream, group, me, idle_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now, note = time[1] * 1000 + math.floor(time[2] / 1000), 'clock:' .. group
local noted, gone = tonumber(redis.call('HGET', KEYS[2], note) or 0), 0
if now + idle_ms < noted then
  local from, page = '-', nil
  repeat
    page = redis.call('XPENDING', stream, group, from, '+', 1000)
    for _, one in ipairs(page) do
      -- One whose entry was trimmed leaves the list here.
      if #redis.call('XCLAIM', stream, group, one[2], 0, one[1], 'IDLE', 0, 'JUSTID') == 0 then gone = gone + 1 end
      from = '(' .. one[1]
    end
  until #page < 1000
end
if now + idle_ms < noted or now > noted + idle_ms then
  redis.call('HSET', KEYS[2], note, string.format('%.0f', now))
end
local answer = redis.call('XAUTOCLAIM', stream, group, me, idle_ms, ARGV[4], 'COUNT', ARGV[5])
gone = gone + (answer[3] and #answer[3] or 0)
if gone > 0 then redis.call('HINCRBY', KEYS[2], group, gone) end
local entries, tries, dead = {}, {}, 0
for _, entry in ipairs(answer[2]) do
  if entry and entry[2] then
    local id = entry[1]
    local pending = redis.call('XPENDING', stream, group, id, id, 1)
    local count = pending[1] and pending[1][4] or 1
    if count > tonumber(ARGV[6]) then
      local fields = entry[2]
      local reason = 'delivered ' .. (count - 1) .. ' times and never acknowledged: its consumers died, hung or failed'
      for _, word in ipairs({ 'dead.id', id, 'dead.group', group, 'dead.tries', count - 1, 'dead.time', ARGV[8],
        'dead.reason', reason }) do fields[#fields + 1] = word end
      redis.call('XADD', KEYS[3], 'MAXLEN', '=', ARGV[7], '*', unpack(fields))
      redis.call('XACK', stream, group, id)
      dead = dead + 1
    else
      entries[#entries + 1] = entry
      tries[#tries + 1] = count
    end
  end
end
if answer[1] == '0-0' then
  for _, facts in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local fact = {}
    for i = 1, #facts, 2 do fact[facts[i]] = facts[i + 1] end
    if fact.name ~= me and fact.pending == 0 and fact.idle > 10 * tonumber(idle_ms) then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, fact.name)
    end
  end
end
return { answer[1], entries, tries, gone, dead }

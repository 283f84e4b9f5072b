-- Claims what has been pending for too long. Ids whose entries the cap has trimmed meanwhile leave the pending list with
-- that; they are counted in the same step, so that the count survives whoever claims. After the last page, consumers
-- that have nothing pending and have not been seen for ten times as long are removed.
-- KEYS: stream, hash of counts      ARGV: group, consumer, idle_ms, cursor, count      Gives XAUTOCLAIM's answer.
local stream, group, me, idle_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local answer = redis.call('XAUTOCLAIM', stream, group, me, idle_ms, ARGV[4], 'COUNT', ARGV[5])
local gone = answer[3]
if gone and #gone > 0 then redis.call('HINCRBY', KEYS[2], group, #gone) end
if answer[1] == '0-0' then
  for _, facts in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
    local fact = {}
    for i = 1, #facts, 2 do fact[facts[i]] = facts[i + 1] end
    if fact.name ~= me and fact.pending == 0 and fact.idle > 10 * tonumber(idle_ms) then
      redis.call('XGROUP', 'DELCONSUMER', stream, group, fact.name)
    end
  end
end
return answer

-- Gives a consumer the next events of its group and notes in the same step where the group stands now. Redis before 7.2
-- passes a read on to its append-only file and its replicas without the read counter; the noting carries it. Both are one
-- transaction there: a restart keeps the place together with what is pending, or neither, so nothing is passed over. The
-- place noted is the one just read to, so the group never goes back, however many share it. A counter that was lost
-- before stays unknown: a server that counts on from it, or guesses one, would give a number that is wrong for ever.
-- What the cap took before the group could read it is told to exactly one of its consumers.
-- KEYS: stream, hash of counts      ARGV: group, consumer, count
-- Gives the last id before the read, the entries, and how many were trimmed unread since that was last told.
local stream, name = KEYS[1], ARGV[1]
local function facts_of(list)
  local facts = {}
  for i = 1, #list, 2 do facts[list[i]] = list[i + 1] end
  return facts
end
local group
local groups = redis.pcall('XINFO', 'GROUPS', stream)
if not groups.err then
  for _, list in ipairs(groups) do
    local facts = facts_of(list)
    if facts.name == name then group = facts end
  end
end
local answer = redis.call('XREADGROUP', 'GROUP', name, ARGV[2], 'COUNT', ARGV[3], 'STREAMS', stream, '>')
local entries = answer and answer[1] and answer[1][2] or {}
local before, read, missed = group['last-delivered-id'], group['entries-read'], 0
if #entries > 0 then
  local all = facts_of(redis.call('XINFO', 'STREAM', stream))
  if read == 0 and before ~= '0-0' and all['entries-added'] > all.length then read = false end
  if read and all['recorded-first-entry-id'] == entries[1][1] and all['max-deleted-entry-id'] == '0-0' then
    local field = 'unread:' .. name
    local total = all['entries-added'] - all.length - read
    missed = total - tonumber(redis.call('HGET', KEYS[2], field) or 0)
    if missed > 0 then redis.call('HSET', KEYS[2], field, total) else missed = 0 end
  end
  local now = entries[#entries][1]
  if read then
    redis.call('XGROUP', 'SETID', stream, name, now, 'ENTRIESREAD', read + #entries)
  else
    redis.call('XGROUP', 'SETID', stream, name, now)
  end
end
return { before, entries, missed }

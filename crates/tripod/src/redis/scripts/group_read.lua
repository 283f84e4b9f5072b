-- Gives a consumer the next events of its group and notes in the same step where the group stands now. Redis before 7.2
-- passes a read on to its append-only file and its replicas without the read counter; the noting carries it. Both are one
-- transaction there: a restart keeps the place together with what is pending, or neither, so nothing is passed over. The
-- place noted is the one just read to, so the group never goes back, however many share it. A counter that was lost
-- before stays unknown: a server that counts on from it, or guesses one, would give a number that is wrong for ever.
-- KEYS: stream      ARGV: group, consumer, count      Gives the last id before the read, and the entries.
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
local before, read = group['last-delivered-id'], group['entries-read']
if #entries > 0 then
  if read == 0 and before ~= '0-0' then
    local all = facts_of(redis.call('XINFO', 'STREAM', stream))
    if all['entries-added'] > all.length then read = false end
  end
  local now = entries[#entries][1]
  if read then
    redis.call('XGROUP', 'SETID', stream, name, now, 'ENTRIESREAD', read + #entries)
  else
    redis.call('XGROUP', 'SETID', stream, name, now)
  end
end
return { before, entries }

-- Makes a consumer group, with a read counter that leaves out what was trimmed before the group existed: from there
-- on entries-added less entries-read is what the group has still to read plus what was trimmed before it read it.
-- KEYS: stream, hash of counts      ARGV: group, start: '0', '$' or an id      Gives 1 made, 0 there already.
local stream, group, start = KEYS[1], ARGV[1], ARGV[2]
local added, length = 0, 0
if redis.call('EXISTS', stream) == 1 then
  local facts = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #facts, 2 do
    if facts[i] == 'entries-added' then added = facts[i + 1] end
    if facts[i] == 'length' then length = facts[i + 1] end
  end
end
local ahead = length
if start == '$' then
  ahead = 0
elseif start ~= '0' then
  ahead = 0
  local from = '(' .. start
  while true do
    local page = redis.call('XRANGE', stream, from, '+', 'COUNT', 500)
    ahead = ahead + #page
    if #page < 500 then break end
    from = '(' .. page[#page][1]
  end
end
local made = redis.pcall('XGROUP', 'CREATE', stream, group, start, 'MKSTREAM', 'ENTRIESREAD', added - ahead)
if made.err then
  if string.find(made.err, 'BUSYGROUP', 1, true) then return 0 end
  return made
end
-- What was told of an earlier group of this name does not concern this one.
redis.call('HDEL', KEYS[2], 'unread:' .. group)
return 1

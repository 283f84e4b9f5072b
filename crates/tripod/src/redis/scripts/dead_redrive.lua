-- Publishes a dead letter again for the group that it died in, and takes it out of the dead letters, in one step. It
-- carries the id that it had first, so that an effect kept under that id or under its key stays one.
-- KEYS: stream, dead letters      ARGV: cap, id of the dead letter      Gives the new id, or nothing where it is gone.
local found = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])
if not found[1] then return false end
local fields, first, group, had_first = {}, nil, nil, false
local words = found[1][2]
for i = 1, #words, 2 do
  if words[i] == 'dead.id' then first = words[i + 1]
  elseif words[i] == 'dead.group' then group = words[i + 1]
  elseif string.sub(words[i], 1, 5) ~= 'dead.' and words[i] ~= 'group' then
    if words[i] == 'first' then had_first = true end
    fields[#fields + 1] = words[i]
    fields[#fields + 1] = words[i + 1]
  end
end
if first and not had_first then
  fields[#fields + 1] = 'first'
  fields[#fields + 1] = first
end
if group then
  fields[#fields + 1] = 'group'
  fields[#fields + 1] = group
end
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[1], '*', unpack(fields))
redis.call('XDEL', KEYS[2], ARGV[2])
return id

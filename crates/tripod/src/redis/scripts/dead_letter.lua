-- Takes an event out of a group and puts it into the dead letters, in one step. One that the cap has trimmed meanwhile is
-- counted instead; one that is pending on somebody else by now is left alone.
-- KEYS: stream, hash of counts, dead letters      ARGV: group, consumer, id, reason, dead_cap, now_ms
-- Gives 1 dead, 0 left alone, -1 trimmed.
local stream, group, id = KEYS[1], ARGV[1], ARGV[3]
local pending = redis.call('XPENDING', stream, group, id, id, 1)
if not pending[1] or pending[1][2] ~= ARGV[2] then return 0 end
local found = redis.call('XRANGE', stream, id, id)
redis.call('XACK', stream, group, id)
if not found[1] then
  redis.call('HINCRBY', KEYS[2], group, 1)
  return -1
end
local fields = found[1][2]
for _, word in ipairs({ 'dead.id', id, 'dead.group', group, 'dead.tries', pending[1][4], 'dead.time', ARGV[6],
  'dead.reason', ARGV[4] }) do fields[#fields + 1] = word end
redis.call('XADD', KEYS[3], 'MAXLEN', '=', ARGV[5], '*', unpack(fields))
return 1

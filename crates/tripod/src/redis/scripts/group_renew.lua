-- Tells the server that a consumer is still at work on its events: they are not claimed by another one meanwhile. Those
-- that were claimed already stay with the other.
-- KEYS: stream      ARGV: group, consumer, ids      Gives the ids that are still its own.
local kept = {}
for i = 3, #ARGV do
  local pending = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if pending[1] and pending[1][2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'JUSTID')
    kept[#kept + 1] = ARGV[i]
  end
end
return kept

-- Removes a consumer, unless something is pending on it: that is for a live one to claim, and removing loses it.
-- KEYS: stream      ARGV: group, consumer      Gives 1 removed, 0 kept.
if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then return 0 end
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return 1

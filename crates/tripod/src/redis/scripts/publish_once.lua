-- Adds an event once per key: the first call adds it, a repeated one gets the first one's id and adds nothing.
-- KEYS: stream, key      ARGV: cap, life_ms, then fields and values
local id = redis.call('GET', KEYS[2])
if id then return id end
id = redis.call('XADD', KEYS[1], 'MAXLEN', '=', ARGV[1], '*', unpack(ARGV, 3))
redis.call('SET', KEYS[2], id, 'PX', ARGV[2])
return id

-- Reads on from an id, with what tells whether the cap passed the reader: how many entries there ever were, how many are
-- left, the first of those, and the greatest that was deleted by hand.
-- KEYS: stream      ARGV: the last id read, count      Gives those four and the entries; nothing without a stream.
if redis.call('EXISTS', KEYS[1]) == 0 then return false end
local facts = {}
local list = redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #list, 2 do facts[list[i]] = list[i + 1] end
local entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])
return { facts['entries-added'], facts.length, facts['recorded-first-entry-id'], facts['max-deleted-entry-id'], entries }

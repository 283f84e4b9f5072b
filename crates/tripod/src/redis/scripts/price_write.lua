-- Writes prices so that an older slot never replaces a newer one, whoever writes, also after the price has expired.
-- KEYS: the prices, then their guards in the same order; none of them twice, the guards are read before anything is
--       written.
-- ARGV: channel, ttl_ms, guard_ttl_ms, the feed's lines for the case that every price is accepted ('' = make them here),
--       then per price: decimal, slot ('' = the last known), source
-- Gives one letter per price: w written, o older (nothing changed), g written over a guard that made no sense; nothing
-- at all where each is w. The accepted ones are published below '<ttl_ms> <unix_ms>', one line each:
-- '<price key> <decimal> <slot> <source>'. The time is this server's: writers whose clocks are wrong do no harm.
local call, match, number = redis.call, string.match, tonumber
local ttl, guard_ttl, lines, count = ARGV[2], ARGV[3], ARGV[4], #KEYS / 2
local time = call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local stamp = ' ' .. now .. ' '
local held = call('MGET', unpack(KEYS, count + 1))
local letters, slots, older = nil, nil, 0
for i = 1, count do
  local at, guard = 3 * i + 2, held[i]
  local decimal, slot, letter = ARGV[at], ARGV[at + 1], nil
  if guard then
    -- One pass, without going back: this is most of what a price costs here. A double holds 2^53 - 1 exactly.
    local last = match(guard, '^[^ ]+ (%d+) %d+ [^ ]+$')
    local value = last and #last <= 16 and number(last)
    if not value or value > 9007199254740991 then
      letter = 'g'
    elseif slot == '' then
      slot = last
    elseif value > number(slot) then
      letter = 'o'
      older = older + 1
    end
  elseif call('TYPE', KEYS[count + i]).ok ~= 'none' then
    -- A key of another type: MGET says nothing, PSETEX replaces it.
    letter = 'g'
  end
  if slot == '' then slot = '0' end
  if letter ~= 'o' then
    call('PSETEX', KEYS[i], ttl, decimal)
    call('PSETEX', KEYS[count + i], guard_ttl, decimal .. ' ' .. slot .. stamp .. ARGV[at + 2])
  end
  if letter then
    letters = letters or {}
    letters[i] = letter
  end
  if lines == '' then
    slots = slots or {}
    slots[i] = slot
  end
end
if older > 0 or lines == '' then
  local accepted = {}
  for i = 1, count do
    if not (letters and letters[i] == 'o') then
      local at = 3 * i + 2
      accepted[#accepted + 1] = KEYS[i] .. ' ' .. ARGV[at] .. ' ' .. (slots and slots[i] or ARGV[at + 1]) .. ' ' .. ARGV[at + 2]
    end
  end
  lines = table.concat(accepted, '\n')
end
if older < count then call('PUBLISH', ARGV[1], ttl .. stamp .. '\n' .. lines) end
if not letters then return '' end
for i = 1, count do letters[i] = letters[i] or 'w' end
return table.concat(letters)

-- Writes prices so that an older slot never replaces a newer one, whoever writes, also after the price has expired.
-- KEYS: price, guard, price, guard, ...
-- ARGV: channel, ttl_ms, guard_ttl_ms, then per price: decimal, slot ('' = the last known), '<unix_ms> <source>'
-- Gives one letter per price: w written, o older (nothing changed), g written over a guard that made no sense.
-- The accepted ones are published as lines of '<price key> <decimal> <slot> <unix_ms> <source>' below '<ttl_ms>'.
local call, pcall, match, number, concat = redis.call, redis.pcall, string.match, tonumber, table.concat
local ttl, guard_ttl = ARGV[2], ARGV[3]
local letters, lines, accepted = {}, { ttl }, 1
for i = 1, #KEYS / 2 do
  local price, guard = KEYS[2 * i - 1], KEYS[2 * i]
  local decimal, slot, rest = ARGV[3 * i + 1], ARGV[3 * i + 2], ARGV[3 * i + 3]
  local letter, last = 'w', nil
  local held = pcall('GET', guard)
  if held then
    -- A key of another type answers with a table. 16 digits hold every slot that a double holds exactly.
    local digits = type(held) == 'string' and match(held, '^[%d.]+ (%d+) %d+ %S+$')
    if digits and #digits <= 16 then last = number(digits) else letter = 'g' end
  end
  if slot == '' then slot = last and string.format('%.0f', last) or '0' end
  if last and last > number(slot) then
    letter = 'o'
  else
    local text = concat({ decimal, slot, rest }, ' ')
    call('PSETEX', price, ttl, decimal)
    call('PSETEX', guard, guard_ttl, text)
    accepted = accepted + 1
    lines[accepted] = price .. ' ' .. text
  end
  letters[i] = letter
end
if accepted > 1 then call('PUBLISH', ARGV[1], concat(lines, '\n')) end
return concat(letters)

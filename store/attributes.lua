-- All attributes of some subjects.
-- KEYS[1]  the attributes
-- ARGV     subjects
-- Returns  per subject: 2 per attribute: name, value; an empty list when there are no attributes at all
local result = {}
if call('EXISTS', KEYS[1]) == 0 then return result end
for i = 1, #ARGV do
  local found = {}
  for _, name in ipairs(names_of(KEYS[1], ARGV[i])) do
    found[#found + 1] = name
    found[#found + 1] = call('HGET', KEYS[1], ARGV[i] .. '\0' .. name)
  end
  result[i] = found
end
return result

-- Remove a registration of a user, unless its token is another one by now, or was registered after the vendor knew.
-- KEYS[1]  the user's registrations; ARGV  field, token ('' = any), ms ('0' = whenever)
-- Returns  1 when it was removed
local found = redis.call('HGET', KEYS[1], ARGV[1])
if not found then return 0 end
if ARGV[2] ~= '' then
  local row = cmsgpack.unpack(found)
  if row[1] ~= ARGV[2] then return 0 end
  if ARGV[3] ~= '0' and row[3] > tonumber(ARGV[3]) then return 0 end
end
local tag, _, user = parts_of(KEYS[1])
mark(tag, 'tokens', user)
return redis.call('HDEL', KEYS[1], ARGV[1])

-- Who of these users is a member of a group, and as of which version.
-- KEYS[1]  the group's info
-- ARGV     tag, group, then the users
-- Returns  version (0: no such group), newest seqId, then those that are members
local tag, group = ARGV[1], ARGV[2]
local result = {
  tonumber(redis.call('HGET', KEYS[1], 'version') or 0), tonumber(redis.call('HGET', tag .. ':m:' .. group, 'q') or 0),
}
if result[1] == 0 then return result end
for i = 3, #ARGV do
  if redis.call('ZSCORE', tag .. ':p:' .. group, ARGV[i]) then result[#result + 1] = ARGV[i] end
end
return result

-- The devices of a user, and who of some viewers may know of them: himself, and friends whom he has not blocked.
-- KEYS[1]  his devices
-- ARGV     tag, user, viewers
-- Returns  the devices as they lie there, then per viewer 1 or 0
local tag, user = ARGV[1], ARGV[2]
local friends, blocked = tag .. ':f:' .. user, tag .. ':b:' .. user
local result = {redis.call('HGETALL', KEYS[1])}
for i = 3, #ARGV do
  local viewer = ARGV[i]
  local may = viewer == user
    or redis.call('ZSCORE', friends, viewer) and redis.call('SISMEMBER', blocked, viewer) == 0
  result[#result + 1] = may and 1 or 0
end
return result

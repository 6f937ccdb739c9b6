-- Replace a profile.
-- KEYS[1]  the profile
-- ARGV     fields and values alternately
redis.call('HSET', KEYS[1], unpack(ARGV))
local tag, _, user = parts_of(KEYS[1])
mark(tag, 'profiles', user)
return 1

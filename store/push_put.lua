-- Write a registration of a user.
-- KEYS[1]  the user's registrations; ARGV  field, value
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
local tag, _, user = parts_of(KEYS[1])
mark(tag, 'tokens', user)
return 1

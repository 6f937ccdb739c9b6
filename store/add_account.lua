-- Make an account, or change its password.
-- KEYS[1]  the account
-- ARGV     password hash, now (ms), replace ('1' or '0')
-- Returns  1 made, 2 changed, 0 exists and replace is '0'
local exists = redis.call('HEXISTS', KEYS[1], 'password') == 1
if exists and ARGV[3] == '0' then return 0 end
redis.call('HSET', KEYS[1], 'password', ARGV[1])
if exists then return 2 end
redis.call('HSET', KEYS[1], 'created', ARGV[2])
return 1

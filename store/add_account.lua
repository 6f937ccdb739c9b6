-- Make an account, or change its password.
-- KEYS[1]  the account
-- ARGV     password hash, now (ms), replace ('1' or '0'), the request that makes it ('' = none)
-- Returns  1 made (also when the same request did so before), 2 changed, 0 exists, or was erased, and replace is '0'
local exists = redis.call('HEXISTS', KEYS[1], 'password') == 1
if exists and ARGV[3] == '0' then
  return ARGV[4] ~= '' and redis.call('HGET', KEYS[1], 'request') == ARGV[4] and 1 or 0
end
if not exists and ARGV[3] == '0' and redis.call('HEXISTS', KEYS[1], 'disabled') == 1 then return 0 end
redis.call('HSET', KEYS[1], 'password', ARGV[1])
local tag, _, user = parts_of(KEYS[1])
mark(tag, 'users', user)
if exists then return 2 end
redis.call('HSET', KEYS[1], 'created', ARGV[2], 'request', ARGV[4])
return 1

-- Begin a request with an Idempotency-Key.
-- KEYS[1]  its record: hash of d digest of the request, t when it began (s), a its answer
-- ARGV     digest, seconds that the record is kept, seconds for which what it does is recognised when done again
-- Returns  state, answer. State: 0 new, 1 answered, 2 of another request, 3 not answered
--          and too old to be done again, 4 not answered
local call = redis.call
local now = tonumber(call('TIME')[1])
local before = call('HMGET', KEYS[1], 'd', 'a', 't')
if not before[1] then
  call('HSET', KEYS[1], 'd', ARGV[1], 't', string.format('%.0f', now))
  call('EXPIRE', KEYS[1], ARGV[2])
  return {0, ''}
end
if before[1] ~= ARGV[1] then return {2, ''} end
if before[2] then return {1, before[2]} end
if now - tonumber(before[3]) > tonumber(ARGV[3]) then return {3, ''} end
return {4, ''}

-- Entries whose pause is over go back into the queue.
-- KEYS     queue, delayed; ARGV  now (ms), how many at most
-- Returns  how many did, how many still wait, length of the queue
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, entry in ipairs(due) do
  redis.call('XADD', KEYS[1], '*', 'e', entry)
  redis.call('ZREM', KEYS[2], entry)
end
return {#due, redis.call('ZCARD', KEYS[2]), redis.call('XLEN', KEYS[1])}

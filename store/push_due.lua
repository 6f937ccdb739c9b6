-- Entries whose pause is over go back into the queue.
-- KEYS     queue, delayed; ARGV  now (ms), how many at most
-- Returns  how many did, how many still wait, length of the queue, id of its first entry, the entry that is due next
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, entry in ipairs(due) do
  redis.call('XADD', KEYS[1], '*', 'e', entry)
  redis.call('ZREM', KEYS[2], entry)
end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local next = redis.call('ZRANGE', KEYS[2], 0, 0)[1]
return {#due, redis.call('ZCARD', KEYS[2]), redis.call('XLEN', KEYS[1]), first and first[1] or '', next or ''}

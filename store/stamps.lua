-- Shared by the scripts that write queues of what must not be missed (put before them; it runs nothing).

-- The next stamp (µs, as text) in a queue: not below `now`, above all in the queue and all that its shard has given, and
-- of the shard alone: no other one gives stamps with the same rest by `step`. A user's page over several queues is never
-- cut between equal stamps, and must fit a frame; and the servers of a Cluster do not know what the others give.
local function queue_stamp(tag, queue, now, step)
  local rest = 2 * tonumber(string.sub(tag, 3, -2)) + (string.sub(tag, 2, 2) == 'u' and 1 or 0)
  local function from(least) return least + (rest - least) % step end
  local newest = tonumber(redis.call('ZREVRANGE', queue, '0', '0', 'WITHSCORES')[2] or 0)
  local stamp = from(math.max(now, tonumber(redis.call('GET', tag .. ':stamp') or 0) + 1))
  redis.call('SET', tag .. ':stamp', string.format('%.0f', stamp))
  if newest >= stamp then stamp = from(newest + 1) end -- of a clock that was ahead: the other queues do not follow
  return string.format('%.0f', stamp)
end

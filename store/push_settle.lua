-- Entries are done: what is to be tried again waits, a record tells of the rest, the entries go.
-- KEYS     queue, delayed, records; ARGV  group, records kept, record ('' = none), number of ids, ids,
--          then 2 per entry to be tried again: when (ms), entry
-- First what is to be tried again, then the entries: a script that ends in between is run again.
local count = tonumber(ARGV[4])
for i = 5 + count, #ARGV, 2 do redis.call('ZADD', KEYS[2], ARGV[i], ARGV[i + 1]) end
if ARGV[3] ~= '' then redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'r', ARGV[3]) end
for i = 5, 4 + count do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  redis.call('XDEL', KEYS[1], ARGV[i])
end
return 1

-- Take elements out of a key and have the archive look at what they were.
-- KEYS[1]  the key
-- ARGV     the command that takes one out (HDEL, ZREM), kind of things (store/marks.py), then 2 per element: itself, which
--          thing it was
for i = 3, #ARGV, 2 do
  redis.call(ARGV[1], KEYS[1], ARGV[i])
  mark((parts_of(KEYS[1])), ARGV[2], ARGV[i + 1])
end
return 1

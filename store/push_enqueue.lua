-- Add entries to the queue of an outlet, unless they were added before.
-- KEYS[1]  the queue; ARGV  seconds for which repeats are known, then 2 per entry: digest, entry
-- Returns  how many were added
local prefix = string.gsub(KEYS[1], ':q$', ':u:')
local added = 0
for i = 2, #ARGV, 2 do
  if redis.call('SET', prefix .. ARGV[i], '1', 'NX', 'EX', ARGV[1]) then
    redis.call('XADD', KEYS[1], '*', 'e', ARGV[i + 1])
    added = added + 1
  end
end
return added

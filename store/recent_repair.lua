-- Note activity that nobody noted: whoever stored a message may have died before he did it. Harmless when run twice.
-- KEYS[1]  the stamp key of this shard of users
-- ARGV     how old a stamp may be compared with the message (µs), then 3 per item: key of the user's recent sessions,
--          session, seqId of its newest message
-- Returns  how many were missing
local call, format = redis.call, string.format
local time, patience, missing = call('TIME'), tonumber(ARGV[1]), 0
local stamp = math.max(tonumber(time[1]) * 1000000 + tonumber(time[2]), tonumber(call('GET', KEYS[1]) or 0) + 1)
for i = 2, #ARGV, 3 do
  if tonumber(call('ZSCORE', ARGV[i], ARGV[i + 1]) or 0) < tonumber(ARGV[i + 2]) - patience then
    call('ZADD', ARGV[i], format('%.0f', stamp), ARGV[i + 1])
    stamp, missing = stamp + 1, missing + 1
  end
end
if missing > 0 then call('SET', KEYS[1], format('%.0f', stamp)) end
return missing

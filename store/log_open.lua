-- Make a consumer group in the logs of shards, where it is missing.
-- KEYS[1]  a key of the shard (any)
-- ARGV     group, where it starts ('0': at what the log holds, '$': at what comes now), then tags
-- Returns  how many were made
local made = 0
for i = 3, #ARGV do
  local answer = redis.pcall('XGROUP', 'CREATE', ARGV[i] .. ':log', ARGV[1], ARGV[2], 'MKSTREAM')
  if not answer.err then
    made = made + 1
  elseif not string.find(answer.err, 'BUSYGROUP', 1, true) then
    return answer
  end
end
return made

-- Logins whose broker is no more have ended.
-- KEYS[1]  who came, of a shard (see came_and_went.lua)
-- ARGV     3 per login: field, value, when it was last heard from (ms)
-- Returns  how many had not been told of
local count = 0
for i = 1, #ARGV, 3 do
  count = count + went(string.match(KEYS[1], '^%b{}'), ARGV[i], ARGV[i + 1], ARGV[i + 2], false)
end
return count

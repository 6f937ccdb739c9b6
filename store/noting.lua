-- Shared by the scripts that note activity in users' recent sessions (put before them; it runs nothing).
-- Stamps are µs, strictly increasing within a shard of users even when the clock steps back, so a cursor never skips one.
local noted, stamp_of = {}, {}

-- Note activity in `session` in the list `recent` of a user; once, however often it is called. `now` in µs.
local function note(recent, session, now)
  local item = recent .. ' ' .. session
  if noted[item] then return end
  noted[item] = true
  local tag = string.match(recent, '^%b{}')
  local stamp = stamp_of[tag] or math.max(now, tonumber(redis.call('GET', tag .. ':stamp') or 0) + 1)
  redis.call('ZADD', recent, string.format('%.0f', stamp), session)
  stamp_of[tag] = stamp + 1
end

-- Keep the stamps for the next script: to be called at the end.
local function keep_stamps()
  for tag, stamp in pairs(stamp_of) do redis.call('SET', tag .. ':stamp', string.format('%.0f', stamp)) end
end

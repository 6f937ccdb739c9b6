-- Do what notes say (store/relate_own.lua) in the shard of the other user. Harmless when run again, in any order.
-- KEYS[1]  the stamp key of this shard of users
-- ARGV     tag, limit (requests that wait for him), then 4 per note: kind, user, other, version
-- Returns  per note: 1 when `other` should look
local tag, limit = ARGV[1], tonumber(ARGV[2])
local result = {}

local function apply(kind, user, other, version)
  local friends, versions, asked = tag .. ':f:' .. other, tag .. ':v:' .. other, tag .. ':q:' .. other
  if kind == 'undo' then return call('ZREM', asked, user) end
  if kind == 'ask' then
    if call('ZSCORE', friends, user) or call('SISMEMBER', tag .. ':b:' .. other, user) == 1 then return 0 end
    call('ZADD', asked, 'NX', text(new_stamp(KEYS[1])), user)
    for _, old in ipairs(call('ZRANGE', asked, 0, -limit - 1)) do -- the oldest go
      call('ZREM', asked, old)
      mark(tag, 'requests', other .. '\0' .. old)
    end
    return 1
  end
  if tonumber(version) < tonumber(call('HGET', versions, user) or 0) then return 0 end
  call('HSET', versions, user, version)
  call('ZREM', asked, user)
  if kind == 'add' then
    call('ZADD', friends, 'NX', text(new_stamp(KEYS[1])), user)
  elseif call('ZREM', friends, user) == 1 then
    clear_attributes(tag .. ':a:' .. other, user)
  end
  return 1
end

for i = 3, #ARGV, 4 do
  result[#result + 1] = apply(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  mark(tag, 'friends', ARGV[i + 2] .. '\0' .. ARGV[i + 1])
  mark(tag, 'requests', ARGV[i + 2] .. '\0' .. ARGV[i + 1])
end
return result

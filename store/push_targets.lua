-- Where pushes for users go: their registrations that still stand, unless they muted the session.
-- KEYS[1]  a key of the shard (any)
-- ARGV     3 per user: tag of his shard, user, session ('' = whichever, muted or not)
-- Returns  per user: a flat list of field and value of each registration
-- A registration of a client stands while the login of its device type is that device's, was not ended by somebody else
-- (KICKOUT, an operator) and did not log out. One that was made for the user by others (device type 0) stands always.
local call, match = redis.call, string.match
local result = {}

local function standing(tag, user, list)
  local types = {}
  local found = {}
  for i = 1, #list, 2 do
    local kind, device = match(list[i], '^(%d+)%z([^%z]*)')
    local good = kind == '0'
    if kind and not good then
      local now = types[kind]
      if now == nil then
        local record = call('HMGET', tag .. ':d:' .. user, kind, 'o' .. kind)
        local number = record[1] and match(record[1], '^%d+')
        local newest = call('HGET', tag .. ':l:' .. user, kind)
        now = number and not record[2] and newest == number and match(record[1], '^%d+%z(.*)') or false
        types[kind] = now
      end
      good = now and cmsgpack.unpack(now)[1] == device
    end
    if good then
      found[#found + 1] = list[i]
      found[#found + 1] = list[i + 1]
    end
  end
  return found
end

for i = 1, #ARGV, 3 do
  local tag, user, session = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local list = call('HGETALL', tag .. ':k:' .. user)
  local found = {}
  if #list > 0 and call('HEXISTS', tag .. ':u:' .. user, 'disabled') == 0 then
    local mute = session ~= '' and call('HGET', tag .. ':s:' .. user, session .. '\0MUTE')
    if not mute or mute == '' or mute == '0' or mute == 'false' then found = standing(tag, user, list) end
  end
  result[#result + 1] = found
end
return result

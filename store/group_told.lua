-- The last two arguments of a change of a group are an event for other systems: its id ('' when none is told) and JSON.
local event_data, event_id = table.remove(ARGV), table.remove(ARGV)

local function tell(tag, group)
  if event_id ~= '' then happened(tag, group, 'group.changed', event_id, event_data) end
end

-- Where the runs of some deliveries under way are when they are ready: `false` where there is no run any more.
local function places_of(members)
  local ids = {}
  for i = 1, #members do ids[i] = sub(members[i], 9) end
  local places = runs_of(ids)
  for i = 1, #ids do places[i] = places[i] and ready_of(places[i]) end
  return places
end

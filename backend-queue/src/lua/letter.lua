-- When a run died and, while it is held as a dead letter, that time again and why; empty where it is none.
local function letter_of(id, run)
  if byte(run, 1) ~= S_FAILED or not call('ZSCORE', LETTERS, id) then return '', '' end
  return call('ZSCORE', DIED, sub(run, 22, 28) .. id) or '', call('HGET', HOLD, id) or ''
end

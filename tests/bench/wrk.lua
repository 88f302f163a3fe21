-- Sends the requests of a file in order: wrk ... -- FILE repeat|once. A line is METHOD PATH [BODY].
-- "repeat" starts over at the end of the file; "once" sends each request once and then stops.

local requests = {}
local once = false
sent = 0

function init(arguments)
  once = arguments[2] == "once"
  local json = { ["Content-Type"] = "application/json" }
  for line in io.lines(arguments[1]) do
    local method, path, body = line:match("^(%S+) (%S+) ?(.*)$")
    if body == "" then
      requests[#requests + 1] = wrk.format(method, path)
    else
      requests[#requests + 1] = wrk.format(method, path, json, body)
    end
  end
end

function request()
  if once and sent == #requests then
    exhausted = true
    wrk.thread:stop()
    return ""
  end
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

local sender_thread

function setup(thread)
  sender_thread = thread
end

-- sent - 1: at start, wrk calls request() once without sending the result.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"sent":%d,"exhausted":%s,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"bad_status":%d,"socket_errors":%d}\n',
    summary.requests, sender_thread:get("sent") - 1, sender_thread:get("exhausted") and "true" or "false",
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end

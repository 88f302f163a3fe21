-- Sends the requests of a file, in order: wrk ... -- FILE again|once. A line is METHOD PATH [BODY].
-- With "again" it starts over at the end of the file; with "once" each request is sent once and then no more.

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

local sender

function setup(thread)
  sender = thread
end

-- wrk asks for one request that it never sends, to see whether there is one.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"sent":%d,"exhausted":%s,"seconds":%f,"p50_ms":%f,"p99_ms":%f,"bad_status":%d,"lost":%d}\n',
    summary.requests, sender:get("sent") - 1, sender:get("exhausted") and "true" or "false",
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end

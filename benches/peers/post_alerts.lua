-- wrk: posts batches of alerts, all of them again and again. Environment: BATCH alerts a request, COUNT in all.
local batch, count = tonumber(os.getenv("BATCH")), tonumber(os.getenv("COUNT"))
local severities = { "critical", "major", "minor", "warning", "info" }
local bodies, turn, thread = {}, 0, 0

local function alert(i)
  local branch = i % 150
  return string.format(
    '{"labels":{"event":"Virus Found","site":"branch-%03d","computer":"ws-%06d.branch-%03d.example.com",' ..
    '"severity":"%s","product":"antivirus","action":"quarantined","scan":"realtime"},' ..
    '"annotations":{"summary":"EICAR-Test-File found on ws-%06d",' ..
    '"description":"EICAR-Test-File in C:/Users/user%06d/Downloads/invoice.doc; action taken: quarantined"}}',
    branch, i, branch, severities[i % #severities + 1], i, i)
end

function setup(t)
  t:set("thread", thread)
  thread = thread + 1
end

function init()
  local head = { ["Content-Type"] = "application/json" }
  for first = 0, count - batch, batch do
    local alerts = {}
    for i = first, first + batch - 1 do alerts[#alerts + 1] = alert(i) end
    bodies[#bodies + 1] = wrk.format("POST", nil, head, "[" .. table.concat(alerts, ",") .. "]")
  end
end

-- Steps of a large prime visit every body, each thread in an order of its own.
function request()
  turn = turn + 1
  return bodies[(turn * 7919 + thread * 104729) % #bodies + 1]
end

function done(summary, latency)
  local seconds = summary.duration / 1e6
  io.write(string.format("result %.0f %d %.2f %.2f\n", summary.requests * batch / seconds,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end

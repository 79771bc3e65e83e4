-- wrk's script: posts jobs with object ids of their own, counts what is not a 201, ends after `jobs` answers.
-- Arguments after `--`: a prefix that no other load uses, the number of jobs (0: until the time is over), and the kind
-- of the jobs, if it is not the root kind: its input is a name.

local threads = {}

function setup(thread)
  thread:set("number", #threads)
  table.insert(threads, thread)
end

function init(args)
  prefix = args[1]
  quota = tonumber(args[2])
  kind = args[3]
  sent, answered, others, first_other = 0, 0, 0, ""
  headers = { ["Content-Type"] = "application/json" }
end

function request()
  sent = sent + 1
  if kind then
    local body = '{"kind":"' .. kind .. '","input":{"name":"' .. prefix .. "-" .. number .. "-" .. sent .. '"}}'
    return wrk.format("POST", "/v1/jobs", headers, body)
  end
  return wrk.format("POST", "/", headers, '{"object_id": "' .. prefix .. "-" .. number .. "-" .. sent .. '"}')
end

function response(status, _, body)
  answered = answered + 1
  if status ~= 201 then
    others = others + 1
    if first_other == "" then
      first_other = status .. " " .. body:sub(1, 200)
    end
  end
  if answered == quota then
    -- The main thread sleeps until the time is over; whoever started wrk interrupts it at this line.
    io.stdout:write("quota reached\n")
    io.stdout:flush()
    wrk.thread:stop()
  end
end

function done(summary, latency, _)
  local answers, refused, example = 0, 0, ""
  for _, thread in ipairs(threads) do
    answers = answers + thread:get("answered")
    refused = refused + thread:get("others")
    if example == "" then example = thread:get("first_other") end
  end
  local errors = summary.errors
  io.stdout:write(string.format(
    'result {"answers": %d, "others": %d, "lost": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "example": "%s"}\n',
    answers, refused, errors.connect + errors.read + errors.write + errors.timeout, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, (example:gsub('[%c"\\]', "'"))))
end

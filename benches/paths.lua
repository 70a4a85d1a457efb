-- For wrk: asks for the paths of a file in turn, and tells at the end what was measured as one line of JSON.

local requests, last = {}, 0

function init(arguments)
    for path in io.lines(arguments[1]) do
        requests[#requests + 1] = wrk.format("GET", path)
    end
end

function request()
    last = last % #requests + 1
    return requests[last]
end

function done(summary, latency)
    local errors = summary.errors
    local all = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format(
        '{"requests": %d, "seconds": %.6f, "errors": %d, "p50": %.3f, "p90": %.3f, "p99": %.3f}\n', summary.requests,
        summary.duration / 1e6, all, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3))
end

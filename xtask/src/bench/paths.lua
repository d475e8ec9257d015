-- Calls the paths that a file lists, one a line, in their order, and again from the first.
-- `load.rs` gives it to wrk; a path that comes often is one string in memory, however often it comes.
local requests, last = {}, 0

function init(args)
  for path in io.lines(args[1]) do
    requests[#requests + 1] = wrk.format("GET", path)
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

require "rainbow"
puts "checked #{Rainbow("x").red.length}"

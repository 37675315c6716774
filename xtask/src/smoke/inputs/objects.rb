require 'json'

Record = Struct.new(:id, :name, :tags)
seed = 7
number = -> { seed = (seed * 1103515245 + 12345) & 0x7fffffff; seed >> 8 }
records = Array.new(80_000) { |i| Record.new(i, "record #{number.() % 5000}", Array.new(number.() % 6) { "tag#{number.() % 90}" }) }
groups = records.group_by(&:name)
puts groups.size, groups.max_by { |name, list| [list.size, name] }.first
text = JSON.generate(groups.transform_values { |list| list.map(&:to_a) })
puts text.bytesize, JSON.parse(text).values.flatten.size
threads = Array.new(4) { |part| Thread.new { records.each_slice(4).sum { |slice| slice[part].tags.join.size } } }
puts threads.map(&:value)
puts text.gsub(/tag(\d)/) { "t#{$1}" }.bytesize

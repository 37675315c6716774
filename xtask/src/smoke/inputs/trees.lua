local function tree(depth)
  if depth == 0 then return {} end
  return { tree(depth - 1), tree(depth - 1), name = "node " .. depth }
end

local function count(node)
  local total = 1
  for _, child in ipairs(node) do total = total + count(child) end
  return total
end

local kept = tree(16)
for depth = 4, 14, 2 do
  local total = 0
  for _ = 1, 1 << (16 - depth) do total = total + count(tree(depth)) end
  print(depth, total)
end
print(count(kept))

local words = {}
for i = 1, 200000 do words[i] = string.rep("w", i % 40) .. (i * 7919 % 100003) end
table.sort(words)
local text = table.concat(words, ",")
print(#text, words[1], words[#words], select(2, text:gsub("w+(%d)", "%1")))

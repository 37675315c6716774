# Arrays, substitutions, here-strings and many short children.
declare -A count
for ((i = 0; i < 20000; i++)); do
    key="k$((i * 7919 % 997))"
    count[$key]=$((${count[$key]:-0} + i))
    list+=("${key}-${i}")
done
text="${list[*]}"
echo "${#count[@]} ${#text} ${text//k1/KK1}" | cksum
for ((i = 0; i < 60; i++)); do
    answer=$(printf '%s\n' "${list[@]:i*100:100}" | sort -r | head -n 1)
    echo "$answer"
done
while read -r word rest; do
    total=$((total + ${#word} + ${#rest}))
done <<<"$text"
echo "$total"

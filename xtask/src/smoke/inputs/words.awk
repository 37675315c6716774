{
    for (i = 1; i <= NF; i++) {
        count[$i]++
        last[$i] = last[$i] substr($0, i, 3)
        if (length(last[$i]) > 200) last[$i] = ""
    }
}
END {
    for (word in count) {
        words++
        total += count[word] * length(word)
        kept += length(last[word])
    }
    print NR, words, total, kept
}

# A server on a socket of this folder, a load, a few answers, and an orderly end.
redis-server --port 0 --unixsocket "$PWD/socket" --save '' --appendonly no >server.log 2>server.err &
server=$!
for _ in $(seq 100); do
    redis-cli -s socket ping >/dev/null 2>&1 && break
    sleep 0.1
done
redis-benchmark -s socket -q -n 30000 -r 5000 -d 200 -t set,get,incr,lpush,lpop,sadd,hset,zadd,mset >benchmark.log || exit 1
redis-cli -s socket flushall
for i in $(seq 400); do
    echo "rpush list value-$i-$((i * i))"
    echo "hset hash field-$((i % 50)) $(printf '%*d' $((i % 200)) "$i")"
    echo "append text $(printf '%0*d' $((i % 90)) "$i")"
done | redis-cli -s socket | cksum
redis-cli -s socket lrange list 0 -1 | cksum
redis-cli -s socket hgetall hash | sort | cksum
redis-cli -s socket strlen text
redis-cli -s socket shutdown nosave
wait "$server" || exit 1
grep '^hakmem:' server.log server.err >&2 && exit 1
exit 0

"""Requests that go through what every command that writes can do to a key: make it, change it, leave it, empty it.

One request a line, in shell words; ``$a`` is the key ``{t}a``. The data set is empty at first.
"""

from __future__ import annotations

import shlex

from tests.support.differential.vocabulary import Request

_TEXT = """
# Strings
SET $s 1
SET $s 1 NX
SET $s 2 XX GET
SET $s 1 EX 1000
SET $s 1 KEEPTTL
SET $s 1 PXAT 1
GET $s
SETNX $s 1
SETNX $s 1
SETEX $s 1000 1
PSETEX $s 1000000 1
GETSET $s 5
GETEX $s
GETEX $s EX 1000
GETEX $s PERSIST
GETEX $s PERSIST
GETEX $s EXAT 1
GETEX $s
GETDEL $s
SET $s 5
GETDEL $s
INCR $s
INCRBY $s 5
DECR $s
DECRBY $s 2
INCRBYFLOAT $s 1.5
INCR $s
APPEND $s x
APPEND $s ''
APPEND $new ''
SETRANGE $s 1 ''
SETRANGE $s 1 zz
SETRANGE $none 1 ''
SETRANGE $new2 1 x
MSET $s 1 $m 2 $s 3
MSETNX $s 1 $n 2
MSETNX $n1 1 $n2 2
# Bits
SETBIT $bits 7 1
SETBIT $bits 7 1
SETBIT $s 7 0
BITOP AND $dest $bits $s
BITOP OR $dest $none1 $none2
BITOP OR $dest $none1 $none2
BITOP NOT $dest $bits
BITFIELD $bits SET u8 0 255 GET u8 0
BITFIELD $bits GET u8 0
BITFIELD $none GET u8 0
BITFIELD $field INCRBY u8 0 1 INCRBY u8 8 1
BITFIELD $field OVERFLOW FAIL INCRBY u8 0 300
BITFIELD_RO $bits GET u8 0
# HyperLogLog
PFADD $p a
PFADD $p a
PFADD $p2
PFADD $p2
PFADD $p3 b
PFMERGE $p $p2 $p3
PFMERGE $p4
PFCOUNT $p
PFCOUNT $p $p2
PFDEBUG ENCODING $p
# Keys
EXPIRE $s 1000
EXPIRE $s 1000 NX
EXPIRE $s 10 XX
EXPIRE $none 10
EXPIREAT $s 99999999999
PEXPIRE $s 1000000
PEXPIREAT $s 99999999999999
PERSIST $s
PERSIST $s
EXPIRE $s -1
SET $s 1
PEXPIREAT $s 1
SET $s 1
RENAME $s $s
RENAME $s $r
RENAME $none $r
SET $s 1
RENAME $s $r
SET $s 1
RENAMENX $s $r
RENAMENX $s $r2
COPY $r $r2
COPY $r $r2 REPLACE
COPY $r $r3
COPY $r $other DB 1
COPY $none $r
MOVE $r 1
MOVE $r 1
MOVE $none 1
RESTORE $d 0 "\\x00\\x01x\\x0b\\x00\\x93\\x40\\x1f\\xa6\\x8b\\xd2\\xa8\\x1c"
DEL $r $none $r2 $r3
UNLINK $m $none $n1
TOUCH $n2
EXISTS $none
TYPE $none
TTL $none
OBJECT ENCODING $none
DUMP $none
STRLEN $none
# Lists
LPUSHX $l a
RPUSHX $l a
LPUSH $l a b c d e
RPUSH $l f g
LPUSHX $l x
RPUSHX $l x
LINSERT $l BEFORE a i
LINSERT $l BEFORE nothing i
LINSERT $none BEFORE a i
LSET $l 0 y
LSET $l 99 y
LREM $l 0 nothing
LREM $l 0 x
LTRIM $l 1 5
LTRIM $l 0 -1
LPOP $l
RPOP $l 2
LPOP $l 0
LPOP $none
LMPOP 2 $none $l LEFT COUNT 1
LMPOP 1 $none LEFT
BLMPOP 1 2 $none $l RIGHT
LMOVE $l $l LEFT RIGHT
LMOVE $l $l2 LEFT RIGHT
RPOPLPUSH $l $l2
RPOPLPUSH $none $l2
BLMOVE $l2 $l RIGHT LEFT 1
BRPOPLPUSH $l2 $l 1
BLPOP $l2 $l 1
BRPOP $l 1
LPUSH $l 1 2
LTRIM $l 5 9
LPUSH $l 1
LREM $l 0 1
LPUSH $l 1
LPOP $l
LPUSH $l 1
LMPOP 1 $l LEFT COUNT 10
LPUSH $l 1
RPOPLPUSH $l $l2
DEL $l2
LPOS $none a
LRANGE $none 0 -1
LLEN $none
# Sets
SADD $a 1 2 3
SADD $a 1
SADD $b 2 x
SREM $a none
SREM $a 1
SREM $none 1
SMOVE $a $b nothing
SMOVE $a $b 3
SMOVE $b $b 3
SMOVE $none $b 3
SADD $a 2
SMOVE $a $b 2
SADD $a 1 2 3
SINTERSTORE $c $a $b
SINTERSTORE $c $a $none
SINTERSTORE $c $a $none
SUNIONSTORE $c $a $b
SUNIONSTORE $c $none
SUNIONSTORE $c $none
SDIFFSTORE $c $a $b
SDIFFSTORE $c $a
SDIFFSTORE $c $a $a
SPOP $a
SPOP $a 0
SPOP $a 100
SPOP $none
SPOP $none 2
SADD $a 1
SPOP $a
SADD $a 1
SREM $a 1
SMEMBERS $none
SINTERCARD 1 $none
SRANDMEMBER $none 2
SISMEMBER $none x
# Sorted sets
ZADD $z 1 a 2 b 3 c
ZADD $z 1 a
ZADD $z XX 5 nothing
ZADD $z 9 a
ZADD $z INCR 1 a
ZADD $z XX INCR 1 nothing
ZADD $z NX INCR 1 a
ZINCRBY $z 1 a
ZINCRBY $y 1 a
ZREM $z nothing
ZREM $z a
ZPOPMIN $z
ZPOPMAX $z 0
ZPOPMAX $none
ZMPOP 2 $none $z MIN
ZMPOP 1 $none MIN
ZADD $z 1 a 2 b 3 c 4 d 5 e 6 f
BZPOPMIN $none $z 1
BZPOPMAX $z 1
BZMPOP 1 1 $z MAX COUNT 1
ZREMRANGEBYRANK $z 0 0
ZREMRANGEBYRANK $z 5 9
ZREMRANGEBYSCORE $z 4 4
ZREMRANGEBYSCORE $z 99 100
ZADD $z 0 a 0 b 0 c
ZREMRANGEBYLEX $z [a [a
ZREMRANGEBYLEX $z [x [x
ZRANGESTORE $x $z 0 -1
ZRANGESTORE $x $z 0 1 REV
ZRANGESTORE $x $none 0 -1
ZRANGESTORE $x $none 0 -1
ZUNIONSTORE $x 2 $z $y
ZUNIONSTORE $x 1 $none
ZUNIONSTORE $x 1 $none
ZINTERSTORE $x 2 $z $y
ZADD $y 1 b
ZINTERSTORE $x 2 $z $y
ZDIFFSTORE $x 2 $z $y
ZDIFFSTORE $x 2 $z $z
ZREMRANGEBYRANK $z 0 -1
ZADD $z 1 a
ZPOPMIN $z 5
ZADD $z 1 a
ZREM $z a
ZSCORE $none a
ZRANGE $none 0 -1
ZCARD $none
# Geo
GEOADD $g 13 38 p 15 37 c
GEOADD $g 13 38 p
GEOADD $g XX CH 14 38 p
GEORADIUS $g 15 37 200 km STORE $geo
GEORADIUS $g 15 37 1 m STOREDIST $geo
GEORADIUS $g 1 1 1 m STORE $geo
GEORADIUS $g 1 1 1 m STORE $geo
GEORADIUSBYMEMBER $g p 500 km STOREDIST $geo
GEOSEARCHSTORE $geo $g FROMMEMBER p BYRADIUS 10 m
GEOSEARCHSTORE $geo $g FROMLONLAT 0 0 BYRADIUS 10 m
GEOSEARCHSTORE $geo $none FROMLONLAT 0 0 BYRADIUS 10 m
GEOPOS $none a
# Hashes
HSET $h f 1 g 2
HSET $h f 1
HMSET $h f 1
HSETNX $h f 2
HSETNX $h n 2
HINCRBY $h f 1
HINCRBY $new-hash f 1
HINCRBYFLOAT $h f 1.5
HINCRBYFLOAT $new-hash2 f 1.5
HDEL $h nothing
HDEL $h f n
HDEL $none f
HDEL $h g
HGETALL $none
HGET $none f
HRANDFIELD $none 2
# Sorting
RPUSH $nums 3 1 2
SORT $nums STORE $sorted
SORT $none STORE $sorted
SORT $none STORE $sorted
SORT $nums
SORT_RO $none
# Streams
XADD $none NOMKSTREAM 1-1 f v
XADD $st 1-1 f v
XADD $st MAXLEN 2 2-1 f v
XADD $st MAXLEN 2 3-1 f v
XADD $st MAXLEN 1 4-1 f v
XTRIM $st MAXLEN 0
XTRIM $st MAXLEN 0
XADD $st 5-1 f v
XADD $st 6-1 f v
XADD $st 7-1 f v
XDEL $st 9-9
XDEL $st 5-1
XSETID $st 9-1
XGROUP CREATE $st g 0
XGROUP CREATE $st2 g 0 MKSTREAM
XGROUP SETID $st g 0
XGROUP CREATECONSUMER $st g c
XGROUP CREATECONSUMER $st g c
XREADGROUP GROUP g c COUNT 1 STREAMS $st >
XREADGROUP GROUP g new COUNT 1 STREAMS $st >
XREADGROUP GROUP g newer COUNT 1 STREAMS $st >
XREADGROUP GROUP g c STREAMS $st 0
XREADGROUP GROUP g other STREAMS $st 0
XCLAIM $st g c2 0 6-1
XCLAIM $st g c3 0 1-1
XAUTOCLAIM $st g c4 0 0
XACK $st g 6-1
XGROUP DELCONSUMER $st g c2
XGROUP DELCONSUMER $st g nobody
XGROUP DESTROY $st g
XGROUP DESTROY $st g
XRANGE $none - +
XREAD STREAMS $none 0
XLEN $none
# Several at once
MULTI
SET $t 1
LPUSH $u 1
DEL $t
EXEC
EVAL "redis.call('set', KEYS[1], 1) redis.call('del', KEYS[1])" 1 $t
SELECT 1
SET $o 1
SWAPDB 0 1
SELECT 0
FLUSHDB
SET $o 1
FLUSHALL ASYNC
"""


def _request(line: str) -> Request:
    return tuple(
        b"{t}" + word[1:].encode("latin-1")
        if word.startswith("$")
        else word.encode("latin-1").decode("unicode-escape").encode("latin-1")
        for word in shlex.split(line)
    )


REQUESTS: list[Request] = [_request(line) for line in _TEXT.strip().splitlines() if not line.startswith("#")]

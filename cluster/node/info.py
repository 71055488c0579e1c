"""temporary"""
def info_text(server, sections):
    lines=[b"# Server",b"redis_version:7.0.15",b"redis_mode:cluster" if server.cluster else b"redis_mode:standalone",b"# Replication",b"role:"+(b"slave" if server.replication_state.is_replica else b"master"),b"# Cluster",b"cluster_enabled:%d"%(server.cluster is not None),b"loading:0",b"# Keyspace"]
    n=len(server.keyspace.databases[0])
    if n: lines.append(b"db0:keys=%d,expires=0,avg_ttl=0"%n)
    return b"\r\n".join(lines)+b"\r\n"

#!/bin/bash
# Xen's own xenstored, started from a stream without a hypervisor. Written for Xen's developers' daemons beside this project;
# used by peers/xenstored.sh.
#
# xenstored-accepts.sh [--exact] [--watches] [--splice] [--keep DIR] STREAM EXPECTED
#
# Starts the real (Debian-packaged) C xenstored from the live-update stream
# STREAM, reads the whole tree back over its socket and compares it.
#
#   EXPECTED      *.json : [{"path","value"(hex),"perms":["n0",...]}, ...], "/" included;
#                 "-"    : no comparison, the stream must just be accepted;
#                 other  : what `xenstore-ls -fp` must print (compared sorted).
#   --exact       also compare the order of the nodes (children come back in stream order)
#   --watches     afterwards touch every absolute watch path of every socket connection
#                 and demand the watch event with its token on that connection
#   --splice      add what the daemon cannot live without where the stream (say, of a guest
#                 migration) has none: GLOBAL_DATA, a dom0 shared-ring CONNECTION_DATA, one for
#                 every node owner, and missing parent nodes (those are left out of the comparison)
#   --keep DIR    leave ls.txt, tree.json, log in DIR
#   XENSTORED=... in the environment: another xenstored binary
#
# Exit 0: accepted and equal. 1: refused or different. 2: could not run here.
# No hypervisor is needed: a small preloaded library stands in for libxenctrl,
# libxenevtchn and libxengnttab. Only the daemon's own process is started and ended.
#
# --unpack DIR  writes that library (xsstub.so) and the helpers to DIR and stops.
set -u
me=xenstored-accepts
fail() { echo "$me: CANNOT RUN: $*"; exit 2; }
exact=0 watches=0 splice=0 keep= unpack=
while [ $# -gt 0 ]; do case $1 in
  --exact) exact=1;; --watches) watches=1;; --splice) splice=1;;
  --keep) keep=$2; shift;; --unpack) unpack=$2; shift;;
  --) shift; break;; -*[!-]*) echo "$me: unknown option $1"; exit 2;; *) break;;
esac; shift; done
if [ -z "$unpack" ] && [ $# -ne 2 ]; then sed -n '5,28p' "$0"; exit 2; fi

daemon() { ls -1 /usr/lib/xen-*/bin/xenstored 2>/dev/null | tail -1; }
need=
[ -n "${XENSTORED:-}" ] || [ -n "$(daemon)" ] || need="$need xen"
command -v xenstore-ls >/dev/null || need="$need xenstore-utils"
command -v python3 >/dev/null || need="$need python3-minimal"
command -v cc >/dev/null || command -v gcc >/dev/null || need="$need gcc libc6-dev"
if [ -n "$need" ]; then
  export DEBIAN_FRONTEND=noninteractive
  pk() { apt-cache search --names-only '^xen-utils-[0-9.]+$' | sed 's/ .*//' | sort -V | tail -1; }
  [ -n "$(pk)" ] || apt-get update -qq >/dev/null 2>&1
  need=${need/ xen/ $(pk)}
  apt-get install -y -qq --no-install-recommends $need >/tmp/$me-apt.$$ 2>&1 ||
    { apt-get update -qq >/dev/null 2>&1; apt-get install -y -qq --no-install-recommends $need >/tmp/$me-apt.$$ 2>&1; } ||
    { tail -3 /tmp/$me-apt.$$; fail "apt-get install$need"; }
  rm -f /tmp/$me-apt.$$
fi
bin=${XENSTORED:-$(daemon)}
[ -x "$bin" ] || fail "no xenstored binary"
cc=$(command -v cc || command -v gcc) || fail "no C compiler"
export XENSTORED=$bin

work=$(mktemp -d /tmp/$me.XXXXXX) || fail mktemp
if [ -n "$unpack" ]; then dir=$unpack; mkdir -p "$dir"; else dir=$work; fi
trap 'rm -rf "$work"' EXIT
cat > "$dir/xsstub.c" <<'XSSTUB_C'
/* LD_PRELOAD stub that lets a Xen-less machine run a packaged xenstored.
 * It pretends that there is an event channel device (a FIFO), a grant table
 * (one plain file per domain) and a hypervisor that knows every domain. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *dir(void)
{
    const char *d = getenv("XSSTUB_DIR");
    return d ? d : "/tmp";
}

static int in_list(const char *env, unsigned int id)
{
    const char *s = getenv(env);
    char *e;

    while (s && *s) {
        unsigned long v = strtoul(s, &e, 10);
        if (e == s)
            break;
        if (v == id)
            return 1;
        s = *e ? e + 1 : e;
    }
    return 0;
}

static int real_open(const char *path, int flags, unsigned int mode)
{
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

static int ring_fd(unsigned int domid)
{
    char p[512];
    int fd;

    snprintf(p, sizeof(p), "%s/ring-%u", dir(), domid);
    fd = real_open(p, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && ftruncate(fd, 4096)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int redirect(const char *path, int flags)
{
    int fd[2];

    if (!strcmp(path, "/proc/xen/xsd_kva") || !strcmp(path, "/dev/xen/xsd_kva"))
        return ring_fd(0);
    if (!strcmp(path, "/proc/xen/xsd_port") || !strcmp(path, "/dev/xen/xsd_port")) {
        if (pipe(fd))
            return -1;
        if (write(fd[1], "1", 1) != 1)
            return -1;
        close(fd[1]);
        return fd[0];
    }
    (void)flags;
    return -2;
}

#define OPENER(name)                                            \
int name(const char *path, int flags, ...)                      \
{                                                               \
    unsigned int mode = 0;                                      \
    int fd = redirect(path, flags);                             \
    if (fd != -2)                                               \
        return fd;                                              \
    if (flags & (O_CREAT | O_TMPFILE)) {                        \
        va_list ap;                                             \
        va_start(ap, flags);                                    \
        mode = va_arg(ap, unsigned int);                        \
        va_end(ap);                                             \
    }                                                           \
    return real_open(path, flags, mode);                        \
}
OPENER(open)
OPENER(open64)

/* fortified variants */
int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open(path, flags); }

/* --- hypervisor --- */
static int dummy;
void *xc_interface_open(void *a, void *b, unsigned int c) { return &dummy; }
int xc_interface_close(void *x) { return 0; }

static int exists(unsigned int domid)
{
    return domid < 0x7ff0 && !in_list("XSSTUB_DEAD", domid);
}

/* up to 4.17: domid, ssidref, state bits, shutdown reason, ... */
int xc_domain_getinfo(void *x, uint32_t domid, unsigned int max, void *info)
{
    uint32_t *w = info;

    while (domid < 0x7ff0 && !exists(domid))
        domid++;
    if (domid >= 0x7ff0)
        return 0;
    w[0] = domid;
    w[1] = w[2] = w[3] = 0;
    return 1;
}

/* 4.18, 4.19: uint16 domain, uint16 pad, uint32 flags, ... */
int xc_domain_getinfo_single(void *x, uint32_t domid, void *info)
{
    uint32_t *w = info;

    if (!exists(domid)) {
        errno = ESRCH;
        return -1;
    }
    w[0] = domid;
    w[1] = 0;
    return 0;
}

/* 4.20 and later */
void *xenmanage_open(void *log, unsigned int flags) { return &dummy; }
int xenmanage_close(void *h) { return 0; }
int xenmanage_get_domain_info(void *h, unsigned int domid, unsigned int *state,
                              unsigned int *caps, uint64_t *uid)
{
    if (!exists(domid)) {
        errno = ENOENT;
        return -1;
    }
    if (state) *state = 1;
    if (caps) *caps = domid ? 0 : 7;
    if (uid) *uid = 0x1122334400000000ull + domid;
    return 0;
}
int xenmanage_poll_changed_domain(void *h, unsigned int *domid, unsigned int *state,
                                  unsigned int *caps, uint64_t *uid)
{
    static int done;

    if (done++) {
        errno = ENOENT;
        return -1;
    }
    *domid = 0;
    return xenmanage_get_domain_info(h, 0, state, caps, uid);
}

/* --- event channels --- */
struct evt { int fd; };
static struct evt the_evt = { -1 };

void *xenevtchn_open(void *log, unsigned int flags)
{
    char p[512];

    snprintf(p, sizeof(p), "%s/evtchn", dir());
    mkfifo(p, 0600);
    the_evt.fd = real_open(p, O_RDWR | O_NONBLOCK, 0);
    return the_evt.fd < 0 ? NULL : &the_evt;
}
void *xenevtchn_fdopen(void *log, int fd, unsigned int flags)
{
    if (fcntl(fd, F_GETFD) < 0)
        return NULL;
    the_evt.fd = fd;
    return &the_evt;
}
int xenevtchn_close(void *h) { return 0; }
int xenevtchn_fd(struct evt *h) { return h->fd; }
int xenevtchn_bind_virq(void *h, unsigned int virq) { return 1000 + virq; }
int xenevtchn_bind_interdomain(void *h, uint32_t domid, uint32_t port)
{
    return domid ? 16 + domid : 9;
}
int xenevtchn_unbind(void *h, uint32_t port) { return 0; }
int xenevtchn_notify(void *h, uint32_t port) { return 0; }
int xenevtchn_unmask(void *h, uint32_t port) { return 0; }
int xenevtchn_pending(struct evt *h)
{
    uint32_t port;

    return read(h->fd, &port, 4) == 4 ? (int)port : -1;
}

/* --- grant table --- */
void *xengnttab_open(void *log, unsigned int flags) { return &dummy; }
int xengnttab_close(void *h) { return 0; }
int xengnttab_set_max_grants(void *h, uint32_t n) { return 0; }
void *xengnttab_map_grant_ref(void *h, uint32_t domid, uint32_t ref, int prot)
{
    int fd;
    void *p;

    if (in_list("XSSTUB_NORING", domid) || !exists(domid)) {
        errno = EINVAL;
        return NULL;
    }
    fd = ring_fd(domid);
    if (fd < 0)
        return NULL;
    p = mmap(NULL, 4096, prot, MAP_SHARED, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}
int xengnttab_unmap(void *h, void *p, uint32_t n) { return munmap(p, 4096); }
XSSTUB_C
cat > "$dir/xslab.py" <<'XSLAB_PY'
"""Wire client, ring guest and stream reader for the xenstored lab (own code)."""
import socket, struct, mmap, os, json, sys, time, select

CONTROL, DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH, TX_START, TX_END, INTRODUCE, RELEASE, \
    GET_DOMAIN_PATH, WRITE, MKDIR, RM, SET_PERMS, WATCH_EVENT, ERROR, IS_INTRODUCED, RESUME, \
    SET_TARGET = range(20)
RESET_WATCHES, DIRECTORY_PART = 21, 22

class XsError(Exception): pass

class Conn:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX); self.s.connect(path)
        self.rid = 0; self.events = []; self.buf = b''
    def send(self, typ, payload=b'', tx=0):
        self.rid += 1
        self.s.sendall(struct.pack('<IIII', typ, self.rid, tx, len(payload)) + payload)
    def _get(self, n, timeout=10):
        while len(self.buf) < n:
            r, _, _ = select.select([self.s], [], [], timeout)
            if not r: raise TimeoutError
            d = self.s.recv(65536)
            if not d: raise EOFError
            self.buf += d
        d, self.buf = self.buf[:n], self.buf[n:]
        return d
    def recv(self, timeout=10):
        t, r, x, l = struct.unpack('<IIII', self._get(16, timeout))
        return t, r, x, self._get(l, timeout)
    def req(self, typ, payload=b'', tx=0, timeout=10):
        self.send(typ, payload, tx)
        while True:
            t, r, x, d = self.recv(timeout)
            if t == WATCH_EVENT:
                self.events.append(d); continue
            if t == ERROR:
                raise XsError(d.rstrip(b'\0').decode())
            return d
    def write(self, path, val, tx=0):
        if isinstance(val, str): val = val.encode()
        return self.req(WRITE, path.encode() + b'\0' + val, tx)
    def read(self, path, tx=0): return self.req(READ, path.encode() + b'\0', tx)
    def ls(self, path, tx=0):
        d = self.req(DIRECTORY, path.encode() + b'\0', tx)
        return [x.decode() for x in d.split(b'\0')[:-1]] if d else []
    def perms(self, path, tx=0):
        return [x.decode() for x in self.req(GET_PERMS, path.encode() + b'\0', tx).split(b'\0')[:-1]]
    def setperms(self, path, *p, tx=0):
        return self.req(SET_PERMS, b''.join(x.encode() + b'\0' for x in (path,) + p), tx)
    def rm(self, path, tx=0): return self.req(RM, path.encode() + b'\0', tx)
    def mkdir(self, path, tx=0): return self.req(MKDIR, path.encode() + b'\0', tx)
    def watch(self, path, token): return self.req(WATCH, path.encode() + b'\0' + token.encode() + b'\0')
    def tx(self): return int(self.req(TX_START, b'\0').rstrip(b'\0'))
    def tree(self, path='/'):
        out = [dict(path=path, value=self.read(path).hex(), perms=self.perms(path))]
        for c in self.ls(path):
            out += self.tree(path.rstrip('/') + '/' + c)
        return out

class Guest:
    """A domain on the other end of a stub ring file."""
    def __init__(self, d, domid):
        self.f = open(f'{d}/ring-{domid}', 'r+b'); self.m = mmap.mmap(self.f.fileno(), 4096)
        self.ev = os.open(f'{d}/evtchn', os.O_WRONLY); self.port = 16 + domid if domid else 9
        self.rid = 0
    def _idx(self, i, v=None):
        if v is None: return struct.unpack_from('<I', self.m, 2048 + 4 * i)[0]
        struct.pack_into('<I', self.m, 2048 + 4 * i, v & 0xffffffff)
    def kick(self): os.write(self.ev, struct.pack('<I', self.port))
    def put(self, data):
        while data:
            c, p = self._idx(0), self._idx(1)
            room = 1024 - ((p - c) & 0xffffffff)
            if not room: self.kick(); time.sleep(0.01); continue
            n = min(room, len(data))
            for b in data[:n]: self.m[p % 1024] = b; p += 1
            self._idx(1, p); data = data[n:]; self.kick()
    def avail(self): return (self._idx(3) - self._idx(2)) & 0xffffffff
    def get(self, n, timeout=5):
        end = time.time() + timeout; out = b''
        while len(out) < n:
            if not self.avail():
                if time.time() > end: raise TimeoutError
                time.sleep(0.005); continue
            c = self._idx(2); out += bytes([self.m[1024 + c % 1024]]); self._idx(2, c + 1)
            if len(out) % 64 == 0: self.kick()
        self.kick(); return out
    def msg(self, typ, payload=b'', tx=0):
        self.rid += 1; return struct.pack('<IIII', typ, self.rid, tx, len(payload)) + payload
    def send(self, typ, payload=b'', tx=0): self.put(self.msg(typ, payload, tx))
    def recv(self):
        t, r, x, l = struct.unpack('<IIII', self.get(16)); return t, r, x, self.get(l) if l else b''
    def req(self, typ, payload=b'', tx=0):
        self.send(typ, payload, tx)
        while True:
            t, r, x, d = self.recv()
            if t == WATCH_EVENT: continue
            if t == ERROR: raise XsError(d.rstrip(b'\0').decode())
            return d

NAMES = {0:'END',1:'GLOBAL_DATA',2:'CONNECTION_DATA',3:'WATCH_DATA',4:'TRANSACTION_DATA',5:'NODE_DATA',
         6:'GLOBAL_QUOTA_DATA',7:'DOMAIN_DATA',8:'WATCH_DATA_EXTENDED'}

def records(b):
    """yield (offset, type, len, body) strictly by the document"""
    off = 16
    while off < len(b):
        t, l = struct.unpack_from('<II', b, off)
        yield off, t, l, b[off + 8: off + 8 + l]
        off += 8 + (l + 7) // 8 * 8
        if t == 0: break
    if off != len(b): yield off, -1, len(b) - off, b[off:]

def decode(t, b):
    r = {}
    if t == 1: r['rw-socket-fd'], r['evtchn-fd'] = struct.unpack_from('<ii', b)
    elif t == 2:
        r['conn-id'], r['conn-type'], r['fields'] = struct.unpack_from('<IHH', b)
        if r['conn-type'] == 0: r['domid'], r['tdomid'], r['evtchn'] = struct.unpack_from('<HHI', b, 8)
        else: r['socket-fd'], r['pad'] = struct.unpack_from('<ii', b, 8)
        i, p, o = struct.unpack_from('<HHI', b, 16)
        r['in-data-len'], r['out-resp-len'], r['out-data-len'] = i, p, o
        r['in'] = b[24:24+i].hex(); r['out'] = b[24+i:24+i+o].hex()
        rest = b[24+i+o:]
        if r['fields'] & 1:
            q = (24+i+o+7)//8*8
            r['pad-octets'] = b[24+i+o:q].hex(); r['unique-id'] = hex(struct.unpack_from('<Q', b, q)[0]); rest = b[q+8:]
        r['rest'] = rest.hex()
    elif t == 3:
        r['conn-id'], a, c = struct.unpack_from('<IHH', b)
        r['wpath'] = b[8:8+a].decode('latin1'); r['token'] = b[8+a:8+a+c].decode('latin1'); r['rest'] = b[8+a+c:].hex()
    elif t == 5:
        r['conn-id'], r['tx-id'], pl, vl, r['access'], n = struct.unpack_from('<IIHHHH', b)
        r['perms'] = [(chr(x[0]), x[1], x[2]) for x in struct.iter_unpack('<BBH', b[16:16+4*n])]
        q = 16 + 4*n
        r['path'] = b[q:q+pl].decode('latin1'); r['value'] = b[q+pl:q+pl+vl].hex(); r['rest'] = b[q+pl+vl:].hex()
    elif t in (6, 7):
        if t == 6: a, c = struct.unpack_from('<HH', b); n = a + c; q = 4; r['n-dom'], r['n-glob'] = a, c
        else: r['domid'], n, r['features'] = struct.unpack_from('<HHI', b); q = 8
        v = struct.unpack_from('<%dI' % n, b, q); names = b[q+4*n:].split(b'\0')
        r['quota'] = {names[k].decode(): v[k] for k in range(n)}; r['rest'] = b'\0'.join(names[n:]).hex()
    else: r['raw'] = b.hex()
    return r

def show(path, limit=200):
    b = open(path, 'rb').read()
    print('header', b[:8], struct.unpack('>II', b[8:16]), 'size', len(b))
    for off, t, l, body in records(b):
        d = decode(t, body)
        print(f'{off:6d} {NAMES.get(t, t)} len={l}', {k: (v if not isinstance(v, str) or len(v) <= limit else v[:limit] + '...') for k, v in d.items() if v != '' and v is not None})

if __name__ == '__main__':
    show(sys.argv[1])
XSLAB_PY
cat > "$dir/accept.py" <<'ACCEPT_PY'
"""accept.py DIR STREAM EXPECTED EXACT WATCHES SPLICE KEEP (see xenstored-accepts.sh)"""
import os, sys, socket, subprocess, time, struct, json, signal, fcntl, ctypes, resource
work, stream, expected, exact, watches, splice, keep = sys.argv[1:8]
exact, watches, splice = exact == '1', watches == '1', splice == '1'
sys.path.insert(0, work)
from xslab import *

ME = 'xenstored-accepts'
XS = os.environ['XENSTORED']
DOMID_INVALID = 0x7ff4
b = open(stream, 'rb').read()
rd = work + '/run'
os.mkdir(rd)

def scan(b):
    """(offset, type, body) the way the daemon walks: next = here + 8 + len, unrounded"""
    off, out = 16, []
    while off + 8 <= len(b):
        t, l = struct.unpack_from('<II', b, off)
        if t == 0 or off + 8 + l > len(b):
            break
        out.append((off, t, b[off + 8:off + 8 + l]))
        off += 8 + l
    return out

def isring0(t, x):
    return t == 2 and len(x) >= 12 and struct.unpack_from('<H', x, 4)[0] != 1 and struct.unpack_from('<H', x, 8)[0] == 0

notes = []
recs = scan(b) if b[:8] == b'xenstore' else []
added = set()
if splice and b[:8] == b'xenstore':
    def ringrec(cid, dom):
        return struct.pack('<IIIHHHHIHHI', 2, 24, cid, 0, 0, dom, DOMID_INVALID, 16 + dom if dom else 9, 0, 0, 0)
    def noderec(path):
        x = struct.pack('<IIHHHHBBH', 0, 0, len(path) + 1, 0, 0, 1, ord('n'), 0, 0) + path + b'\0'
        x += bytes(-len(x) % 8)
        return struct.pack('<II', 5, len(x)) + x
    rest = 16 if not recs else recs[-1][0] + 8 + len(recs[-1][2])
    out = b[:16]
    if not any(t == 1 for _, t, _ in recs):
        out += struct.pack('<IIii', 1, 8, 903, -1); notes.append('GLOBAL_DATA spliced in')
    dom0, known, rings, cid = any(isring0(t, x) for _, t, x in recs), {b'/'}, set(), 0xfffffff0
    first = [x[0] for x in recs if x[1] != 1][:1]
    for off, t, x in recs:
        if t == 1 and x[:4] == b'\xff\xff\xff\xff':
            x = struct.pack('<i', 903) + x[4:]; notes.append('rw-socket-fd -1 replaced')
        if [off] == first and not dom0:
            out += ringrec(cid, 0); notes.append('dom0 ring spliced in')
        if t == 2 and len(x) >= 12 and x[4:6] != b'\1\0': rings.add(struct.unpack_from('<H', x, 8)[0])
        if t == 5 and len(x) >= 20:
            pl, n = struct.unpack_from('<H', x, 8)[0], struct.unpack_from('<H', x, 14)[0]
            path = x[16 + 4 * n:16 + 4 * n + pl].rstrip(b'\0')
            owner = struct.unpack_from('<H', x, 18)[0] if n else 0
            if owner and owner not in rings:
                cid += 1; rings.add(owner); out += ringrec(cid, owner); notes.append(f'dom{owner} ring spliced in')
            need, q = [], path
            while path[:1] == b'/' and q.count(b'/') > 1:
                q = q[:q.rindex(b'/')]
                if q not in known: need.insert(0, q)
            for q in need: out += noderec(q); known.add(q); added.add(q.decode('latin1'))
            known.add(path)
        out += struct.pack('<II', t, len(x)) + x
    if added: notes.append(f'{len(added)} missing parents spliced in')
    b = out + b[rest:]
    recs = scan(b)
want = {}
for off, t, x in recs:
    if t == 1 and len(x) >= 8:
        s, e = struct.unpack_from('<ii', x)
        want[e] = 'evtchn'; want[s] = 'listen'
    elif t == 2 and len(x) >= 24 and struct.unpack_from('<H', x, 4)[0] == 1:
        want.setdefault(struct.unpack_from('<i', x, 8)[0], 'conn')
open(rd + '/state_dump', 'wb').write(b)
src, peers = {}, {}
for fd, kind in want.items():
    if not 3 <= fd < 1000:
        if fd >= 0: notes.append(f'fd {fd} of the stream not provided')
        continue
    if kind == 'listen':
        s = socket.socket(socket.AF_UNIX); s.bind(rd + '/socket'); s.listen(16); src[fd] = s.detach()
    elif kind == 'evtchn':
        os.mkfifo(rd + '/evtchn'); src[fd] = os.open(rd + '/evtchn', os.O_RDWR | os.O_NONBLOCK)
    else:
        x, y = socket.socketpair(socket.AF_UNIX); src[fd] = x.detach(); peers[fd] = y
TOP = 2048
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (4096 if hard == resource.RLIM_INFINITY else min(hard, 4096), hard))
log = os.open(rd + '/log', os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
env = dict(os.environ, XENSTORED_RUNDIR=rd, XSSTUB_DIR=rd)
cenv = dict(env); env['LD_PRELOAD'] = work + '/xsstub.so'
parent = os.getpid()
pid = os.fork()
if pid == 0:
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # die with this helper
        hi = {fd: fcntl.fcntl(s, fcntl.F_DUPFD, TOP) for fd, s in src.items()}
        l = fcntl.fcntl(log, fcntl.F_DUPFD, TOP)
        os.dup2(os.open('/dev/null', os.O_RDWR), 0); os.dup2(l, 1); os.dup2(l, 2)
        os.closerange(3, TOP)
        for fd, s in hi.items(): os.dup2(s, fd, inheritable=True)
        os.closerange(TOP, TOP + 1500)
        os.execve(XS, [XS, '-N', '-U'], env)
    finally:
        os._exit(99)
for s in src.values(): os.close(s)
os.close(log)

status = None
def alive():
    global status
    if status is None:
        p, s = os.waitpid(pid, os.WNOHANG)
        if p: status = s
    return status is None

def finish(ok, text):
    if alive():
        os.kill(pid, signal.SIGTERM); os.waitpid(pid, 0)
    if keep:
        os.makedirs(keep, exist_ok=True)
        open(keep + '/log', 'wb').write(open(rd + '/log', 'rb').read())
    if notes: text += ' [' + '; '.join(notes) + ']'
    print(f'{ME}: {"OK" if ok else "FAIL"}: {text}')
    sys.stdout.flush()
    os._exit(0 if ok else 1)

def why():
    first = open(rd + '/log', errors='replace').read().strip().split('\n')
    fatal = [x for x in first if 'FATAL' in x] or [x for x in first if x]
    s = status
    end = f'signal {os.WTERMSIG(s)}' if os.WIFSIGNALED(s) else f'exit {os.WEXITSTATUS(s)}'
    return f'xenstored refused the stream ({end}{": " + fatal[0] if fatal else ""})'

c = None
end = time.time() + 8
while time.time() < end and alive():
    if os.path.exists(rd + '/socket'):
        try:
            k = Conn(rd + '/socket'); k.send(DIRECTORY, b'/\0'); k.recv(1.0); c = k; break
        except Exception: pass
    time.sleep(.02)
if not alive(): finish(False, why())
if c is None:
    finish(False, 'xenstored runs but cannot be reached: the stream names no listening socket (rw-socket-fd -1 or no GLOBAL_DATA)')
try:
    tree = c.tree()
    ls = subprocess.run(['xenstore-ls', '-fp'], env=cenv, capture_output=True, timeout=20).stdout.decode('latin1')
except Exception as e:
    alive(); time.sleep(.1)
    finish(False, why() if not alive() else f'the loaded tree cannot be read back ({e!r})')
if keep:
    os.makedirs(keep, exist_ok=True)
    open(keep + '/ls.txt', 'w', encoding='latin1').write(ls)
    json.dump(tree, open(keep + '/tree.json', 'w'), indent=0)
if added:      # parents that this script put in are not part of the comparison
    tree_c = [n for n in tree if n['path'] not in added]
    ls_c = '\n'.join(x for x in ls.split('\n') if x.split(' = ')[0] not in added)
else: tree_c, ls_c = tree, ls
if expected.endswith('.json'):
    e = json.load(open(expected)); e = e['nodes'] if isinstance(e, dict) else e
    key = lambda n: (n['path'], n['value'], tuple(n['perms']))
    if not any(n['path'] == '/' for n in e): tree_c = [n for n in tree_c if n['path'] != '/']
    a, g = [key(n) for n in e], [key(n) for n in tree_c]
elif expected != '-':
    a = [x.rstrip() for x in open(expected, encoding='latin1').read().split('\n') if x.strip()]
    g = [x.rstrip() for x in ls_c.split('\n') if x.strip()]
else: a = g = []
if not exact: a, g = sorted(a), sorted(g)
if a != g:
    sa, sg = set(a), set(g)
    for x in a:
        if x not in sg: print('- expected, missing:', x)
    for x in g:
        if x not in sa: print('+ unexpected:', x)
    if sa == sg: print('same entries, other order or other count')
    finish(False, f'tree differs: {len(tree)} nodes loaded, {len([x for x in a if x not in sg])} expected entries missing, {len([x for x in g if x not in sa])} unexpected')

extra = ''
# pending output must have been sent
conns = {}
for off, t, x in recs:
    if t == 2 and len(x) >= 24:
        cid, typ = struct.unpack_from('<IH', x); i, r, o = struct.unpack_from('<HHI', x, 16)
        conns[cid] = dict(fd=struct.unpack_from('<i', x, 8)[0] if typ == 1 else None, out=x[24 + i:24 + i + o])
pend = okp = 0
for k in conns.values():
    if k['fd'] in peers:
        p = peers[k['fd']]; p.settimeout(.3); got = b''
        try:
            while len(got) < len(k['out']):
                d = p.recv(65536)
                if not d: break
                got += d
        except OSError: pass
        if k['out']: pend += 1; okp += got[:len(k['out'])] == k['out']
        k['got'] = got[len(k['out']):]
if pend: extra += f', pending output of {okp}/{pend} connections delivered'
bad = pend != okp
if watches:
    n = f = 0
    for off, t, x in recs:
        if t != 3: continue
        cid, pl, tl = struct.unpack_from('<IHH', x)
        path, tok = x[8:8 + pl].rstrip(b'\0'), x[8 + pl:8 + pl + tl].rstrip(b'\0')
        k = conns.get(cid)
        if not k or k['fd'] not in peers or path.startswith(b'@'): continue
        n += 1
        # a relative watch of a socket client is relative to /local/domain/0
        full = path.decode() if path.startswith(b'/') else '/local/domain/0/' + path.decode()
        try:
            try: val = c.read(full)
            except XsError: val = b''
            c.write(full, val)
        except Exception as e: print('cannot touch', path, repr(e)); continue
        p = peers[k['fd']]; p.settimeout(.1); stop = time.time() + 2; hit = False
        while time.time() < stop and not hit:
            try: d = p.recv(65536)
            except OSError: d = b''
            k['got'] += d
            while len(k['got']) >= 16:
                ty, _, _, l = struct.unpack_from('<IIII', k['got'])
                if len(k['got']) < 16 + l: break
                m, k['got'] = k['got'][16:16 + l], k['got'][16 + l:]
                if ty == WATCH_EVENT and m == path + b'\0' + tok + b'\0': hit = True
        f += hit
        if not hit: print('watch did not fire:', path, tok)
    extra += f', {f}/{n} watches fire'
    bad |= f != n
if not alive(): finish(False, 'the tree is equal, but xenstored died afterwards: ' + why())
what = 'accepted' if expected == '-' else 'accepted and equal'
finish(not bad, f'{what}: {len(tree)} nodes read back{extra}; {os.path.realpath(XS)}')
ACCEPT_PY
$cc -O1 -w -shared -fPIC -o "$dir/xsstub.so" "$dir/xsstub.c" || fail "stub library does not compile"
[ -n "$unpack" ] && { echo "$me: unpacked to $dir"; exit 0; }
[ -r "$1" ] || { echo "$me: FAIL: no stream $1"; exit 1; }
[ "$2" = - ] || [ -r "$2" ] || { echo "$me: FAIL: no expected listing $2"; exit 1; }
timeout -k 5 50 python3 "$dir/accept.py" "$dir" "$1" "$2" "$exact" "$watches" "$splice" "$keep"
rc=$?
[ $rc -gt 1 ] && { echo "$me: FAIL: helper ended with $rc"; rc=1; }
exit $rc

# docs/ops/containers.md says how to run it.
FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN python -m venv /opt/blockqueue \
    && /opt/blockqueue/bin/pip install --no-cache-dir '.[client]'

FROM python:3.13-slim
COPY --from=build /opt/blockqueue /opt/blockqueue
# Nothing of the image can be written by whom the server runs as, but for the volume.
RUN groupadd --system --gid 10001 blockqueue \
    && useradd --system --uid 10001 --gid blockqueue --home-dir /data --shell /usr/sbin/nologin blockqueue \
    && install --directory --owner blockqueue --group blockqueue --mode 0700 /data
ENV PATH=/opt/blockqueue/bin:$PATH \
    BLOCKQUEUE_DB=/data/queue.db \
    BLOCKQUEUE_HOST=0.0.0.0 \
    BLOCKQUEUE_PORT=8080
# The number of the user above: whoever reads the image need not know its names.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
# /readyz needs a token as soon as there is one: that of the administrator, if it was given.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-c", "\
import os, urllib.request as web; \
ask = web.Request('http://127.0.0.1:' + os.environ['BLOCKQUEUE_PORT'] + '/readyz'); \
file = os.environ.get('BLOCKQUEUE_ADMIN_TOKEN_FILE'); \
file and ask.add_header('Authorization', 'Bearer ' + open(file).read().strip()); \
web.urlopen(ask, timeout=4)"]
# The longest orderly end takes 15 s: give `docker stop` a --time of 30.
STOPSIGNAL SIGTERM
ENTRYPOINT ["blockqueue"]
CMD ["serve"]

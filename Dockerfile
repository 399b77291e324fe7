# The page in a container listens on its own network: publish it on the host's loopback, as
# compose.yaml does.
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home pairs
USER pairs
WORKDIR /home/pairs/app

COPY --chown=pairs . .
RUN make install && mkdir /home/pairs/data
ENV DATA_DIR=/home/pairs/data STREAMLIT_SERVER_ADDRESS=0.0.0.0
VOLUME /home/pairs/data
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=20s --start-period=90s \
    CMD [".venv/bin/python", "database_utils.py", "health"]
CMD [".venv/bin/python", "-m", "pairs"]

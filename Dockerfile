# An image that runs the projector as a user without rights; other commands are given after its name:
#   docker build -t cqrsctl .
#   docker run --rm -e CQRSCTL_ENV=staging -v "$PWD/cqrsctl.toml:/home/cqrsctl/cqrsctl.toml:ro" cqrsctl
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY cqrsctl ./cqrsctl
RUN python -m venv /opt/cqrsctl \
    && /opt/cqrsctl/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt .

FROM python:3.13-slim
COPY --from=build /opt/cqrsctl /opt/cqrsctl
RUN useradd --system --create-home --uid 10001 cqrsctl
ENV PATH=/opt/cqrsctl/bin:$PATH \
    PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/cqrsctl
# SIGTERM, which `docker stop` sends, is the regular end of `project`.
STOPSIGNAL SIGTERM
ENTRYPOINT ["cqrsctl"]
CMD ["project"]

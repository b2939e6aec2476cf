from test_clones import FILE, git
def test_m(world):
    project = world.project(FILE, {f"d{i//50}/f{i}.txt": f"{i}\n" * 50 for i in range(1000)})
    git(project, "init", "-q"); git(project, "add", "-A"); git(project, "commit", "-qm", "first")
    world.up(project)
    out = []
    for n in range(3):
        out.append(("diff", round(world.sandbox("diff", "--stat", cwd=project).ok().seconds, 2)))
        out.append(("sync nothing", round(world.sandbox("sync", cwd=project).ok().seconds, 2)))
        (project / "d0/f1.txt").write_text(f"x{n}\n")
        out.append(("sync one in", round(world.sandbox("sync", cwd=project).ok().seconds, 2)))
        world.run(project, f"echo {n} > d1/new{n}")
        out.append(("sync one out", round(world.sandbox("sync", cwd=project).ok().seconds, 2)))
    print(out)
    world.sandbox("down", "--yes", cwd=project)

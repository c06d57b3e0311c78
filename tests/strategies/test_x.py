import torch, pytest
def test_gpt(base, put, data_for):
    d=base("tiny-gpt2"); q=base("tiny-gpt2","nf4")
    print(q.model.transformer.h[0].attn.c_attn)
    m=put(q, data_for("causal-lm"), "lora", {"init":"loftq","rank":4})
    print({n:float(g.abs().max()) for n,g in m.gradients([0,1]).items()})
@pytest.mark.parametrize("n",["tiny-gpt2","tiny-bert","tiny-llama"])
@pytest.mark.parametrize("qz",["nf4","int8"])
def test_close(base, put, data_for,n,qz):
    d=base(n); q=base(n,qz)
    ids=torch.arange(5,15)[None]
    a=d.model(input_ids=ids)[0]; b=q.model(input_ids=ids)[0]
    print(n,qz,float((a-b).norm()/a.norm()))
    p=d.map.linears[0]
    v=q.view("x")
    w=d.view("x").weight(p); qw=v.weight(p); ow=v.original_weight(p)
    print(w.shape,qw.shape,ow.shape)
    assert ow.shape==qw.shape
def test_mob(base,put,data_for):
    q=base("mobilenet","nf4")
    print([type(m).__name__ for m in q.model.modules() if "4bit" in type(m).__name__])

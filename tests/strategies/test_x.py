import torch, time, numpy as np
from torch.nn import functional
from test_linear_probe import bank_features, standardised
from sklearn.linear_model import LogisticRegression
import adapterhub_linear_probe.classifier as c
def test_xyz(bank_features):
    x,y=bank_features
    z,mean,spread=standardised(x)
    for pen in [.1,1e-3]:
        ref=LogisticRegression(C=1/(len(z)*pen),tol=1e-8,max_iter=5000).fit(z,y.numpy())
        for dt in [torch.float32, torch.float64]:
            zz=torch.tensor(z).to(dt); t=time.time()
            torch.set_default_dtype(dt)
            w,b=c._logistic(zz,y,10,[pen],500)[0]
            torch.set_default_dtype(torch.float32)
            t=time.time()-t
            for who,w,b in (("ours",w,b),("skl",torch.tensor(ref.coef_),torch.tensor(ref.intercept_))):
                w=w.double().requires_grad_(); b=b.double().requires_grad_()
                l=functional.cross_entropy(functional.linear(torch.tensor(z),w,b),y)+.5*pen*w.pow(2).sum(); l.backward()
                bn=b.detach().numpy()
                print(who,pen,dt,round(t,2), float(l.detach()), float(w.grad.abs().max()), float(b.grad.abs().max()), np.abs(w.detach().numpy()-ref.coef_).max(), np.abs(bn-bn.mean()-ref.intercept_).max())
